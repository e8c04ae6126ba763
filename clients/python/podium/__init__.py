"""Podium for Python: the wire contract (`podium.v1`), the SDK (`podium.sdk`), the command line.

Nothing is imported here, so that whoever needs the contract alone loads the contract alone.
"""
