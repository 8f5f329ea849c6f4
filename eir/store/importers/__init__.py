"""List files of the world (ours, DIRBS-Core's, another CEIR's) read into sorted, unique columns.

DuckDB reads, normalises and sorts; numpy streams drop duplicates and settle conflicts. Nothing here
decides policy, and nothing is imported from DuckDB before a file is read.
"""
