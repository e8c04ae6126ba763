"""Decisions of MLRouter: what is learned, how it scores, how policies compare. Pure."""
