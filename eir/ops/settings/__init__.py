"""The one configuration file: every setting there is, read, checked, and turned into the rooms' own
values.
"""
