"""Encoders: images to events."""
