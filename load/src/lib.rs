//! A client that sends streaming chat requests and checks every stream for completeness.
