//! What membership frames look like on the wire.
//!
//! A frame is `kind: u8`, `body length: u32 LE`, body, and then any number of updates, each
//! `length: u16 LE` and a record. Postcard cannot skip what it does not know, so the lengths are
//! ours: an unknown kind is skipped whole, trailing fields of a known body or record are ignored,
//! and a newer node can thus speak to an older one. Limits are checked before anything is
//! allocated, and nothing here can panic on a peer's bytes.

mod frame;
mod record;
mod skim;

pub use frame::{FRAME_BYTES_MAX, Frame, Message, Summary, Want, decode, encode};
pub(crate) use frame::{is_lone_beat, skim, update};
pub use record::{INCARNATION_MAX, OBSERVERS_MAX, Record, encode_record};
pub(crate) use skim::Skimmed;

/// Why a peer's bytes were not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("truncated")]
    Truncated,
    /// More than a frame may hold.
    #[error("too long: {0} bytes")]
    TooLong(usize),
    /// A field does not decode: what it is of.
    #[error("{0}")]
    Malformed(&'static str),
    /// A field decodes to what no honest peer sends.
    #[error("not allowed: {0}")]
    NotAllowed(String),
    /// A kind of a later version: to be skipped, no error of the peer's.
    #[error("unknown kind {0}")]
    UnknownKind(u8),
}

impl DecodeError {
    /// What was wrong, in words that no peer can choose.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Truncated => "a truncated frame",
            Self::TooLong(_) => "a frame that is too long",
            Self::Malformed(what) => what,
            Self::NotAllowed(_) => "a record beyond its limits",
            Self::UnknownKind(_) => "a frame of an unknown kind",
        }
    }
}
