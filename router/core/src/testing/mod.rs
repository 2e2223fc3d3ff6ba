//! What tests of the router are written in, here and in the crates above: ids and records in short (`records`), what is said
//! on a link (`link`), a gateway that checks all it hears (`gateway`), and a store of maps that answers a node
//! (`tables`).

mod gateway;
mod link;
mod records;
mod tables;

pub use self::gateway::{Client, Gateway};
pub use self::link::{
    connection, decode, encode, history_of, link_hello, page_texts, send_of, session_open, text_of,
};
pub use self::records::{
    GENERATION, START, conversation, device, direct, draft, message_id_at, other_message_id, position,
    record, send, send_key, stamp, text, user,
};
pub use self::tables::{SharedTables, Tables};
