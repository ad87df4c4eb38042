//! Bytes that we give away.

use peerage::Secret;

use crate::{
    call::{Out, call, free, peerage_status, read},
    error::peerage_error,
    text::{peerage_slice, peerage_str},
};

/// Bytes, or text, that belong to whoever got them; freed with `peerage_bytes_free`.
pub struct peerage_bytes(pub(crate) bytes::Bytes);

/// The bytes. They belong to the handle; none for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_bytes_view(bytes: *const peerage_bytes) -> peerage_slice {
    let none = peerage_slice::NONE;
    // SAFETY: the header demands a living handle or NULL.
    read(none, || unsafe { bytes.as_ref() }.map_or(none, |bytes| peerage_slice::of(&bytes.0)))
}

/// The same bytes as text. Where another node sent them, nobody has checked that they are UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_bytes_text(bytes: *const peerage_bytes) -> peerage_str {
    // SAFETY: the header demands a living handle or NULL.
    let view = unsafe { peerage_bytes_view(bytes) };
    peerage_str { data: view.data.cast(), len: view.len }
}

/// Frees bytes; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_bytes_free(bytes: *mut peerage_bytes) {
    // SAFETY: the header demands bytes that were not freed, or NULL.
    unsafe { free(bytes) };
}

/// A new cluster secret of 32 random bytes, as text (see `peerage_bytes_text`). Keep it where you
/// keep passwords, and give it to every node of the cluster.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_secret_generate(
    secret: *mut *mut peerage_bytes,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands places for pointers, or NULL.
    unsafe {
        call(error, || {
            let out = Out::new(secret, "secret")?;
            out.give(peerage_bytes(Secret::generate().to_text().into()));
            Ok(())
        })
    }
}
