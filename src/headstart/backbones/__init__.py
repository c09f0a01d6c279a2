"""Pretrained networks as chains of named stages that can be cut anywhere."""
