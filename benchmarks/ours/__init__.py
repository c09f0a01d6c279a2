"""The same work by Headstart, each in a fresh process."""
