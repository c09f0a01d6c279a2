"""The studies that ship with Headstart, one YAML file each."""
