"""The nodes' gRPC clients: each looks just like the node it calls."""
