"""Bad input: anything at all given to any parameter of any public door is refused by name."""
