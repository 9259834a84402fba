//! What sconce understands of gRPC and of Spark Connect, and no more.
