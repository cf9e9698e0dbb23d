"""Helpers that know no model: registries, errors, events, logging, files."""
