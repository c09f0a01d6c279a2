"""The experiment file: schema, loading, errors that help."""
