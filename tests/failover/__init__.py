"""The server that writes dies for good, and another one takes its place: nothing acknowledged is lost.

standby.py   a PostgreSQL server that follows another one, and is promoted
galera.py    MariaDB servers that are one cluster
"""
