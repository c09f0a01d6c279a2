"""What people use today, as its documentation recommends; each in an environment of its own."""
