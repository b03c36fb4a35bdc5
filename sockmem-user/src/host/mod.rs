//! Facts about the host: `/proc`, sock_diag, sysctl, namespaces, capabilities.
