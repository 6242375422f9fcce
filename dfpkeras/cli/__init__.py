"""The command ``dfpkeras``."""
