"""The contract of each node: a Protocol and the plain values that cross it.

A node's domain object, its gRPC client and a test's fake are all just implementations of these.
"""
