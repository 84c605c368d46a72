"""The server: the Hub's inference API in front of a model."""
