//! Bearer tokens (JWT, RFC 7519): verification for both listeners, and development tokens.
