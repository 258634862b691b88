"""The ways in which people load, wrap and change models: explained right, or refused by name."""
