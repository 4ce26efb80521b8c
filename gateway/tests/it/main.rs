//! The gateway as clients, replicas and operators see it.
