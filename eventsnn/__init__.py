"""Exact event-driven simulation of convolutional spiking networks."""

__version__ = "0.1.0"
