//! JSON text form of the client protocol.
