//! The echo mode: every value type both ways without a network, for tests and benchmarks. These
//! functions are exported but stand in `tests/echo.h`, not in `peerage.h`.

use peerage::{
    Error, Result,
    boundary::{Value, echo_events, echo_value},
};

use crate::{
    arena::Arena,
    bytes::peerage_bytes,
    call::{Out, call, null, peerage_status},
    error::peerage_error,
    events::peerage_events,
    text::{flag, peerage_slice, peerage_str, peerage_tags},
};

/// The sample events, over and over, until `count` were published; then the stream ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_echo_events(
    count: u64,
    events: *mut *mut peerage_events,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands places for pointers, or NULL.
    unsafe {
        call(error, || {
            let out = Out::new(events, "events")?;
            out.give(peerage_events::new(echo_events(count)?));
            Ok(())
        })
    }
}

/// Gives text back as bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_echo_text(
    text: peerage_str,
    echo: *mut *mut peerage_bytes,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands text that is there, and places for pointers, or NULL.
    unsafe {
        call(error, || match echo_value(text.value()) {
            Value::Text(text) => {
                Out::new(echo, "echo")?.give(peerage_bytes(text.into()));
                Ok(())
            }
            other => unexpected(&other),
        })
    }
}

/// Gives bytes back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_echo_bytes(
    bytes: peerage_slice,
    echo: *mut *mut peerage_bytes,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands bytes that are there, and places for pointers, or NULL.
    unsafe {
        call(error, || match echo_value(bytes.value()) {
            Value::Bytes(bytes) => {
                Out::new(echo, "echo")?.give(peerage_bytes(bytes.into()));
                Ok(())
            }
            other => unexpected(&other),
        })
    }
}

/// Gives a number back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_echo_number(
    number: u64,
    echo: *mut u64,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a place for a number and one for a pointer, or NULL.
    unsafe {
        call(error, || match echo_value(Value::from(number)) {
            _ if echo.is_null() => Err(null("echo")),
            Value::Int(number) => {
                echo.write(number.try_into().map_err(|_| Error::Internal("not 64 bits".into()))?);
                Ok(())
            }
            other => unexpected(&other),
        })
    }
}

/// Gives a flag back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_echo_flag(
    given: u8,
    echo: *mut bool,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a place for a flag and one for a pointer, or NULL.
    unsafe {
        call(error, || match echo_value(flag(given)) {
            _ if echo.is_null() => Err(null("echo")),
            Value::Bool(flag) => {
                echo.write(flag);
                Ok(())
            }
            other => unexpected(&other),
        })
    }
}

/// Tags that were given back; `peerage_echo_tags_free` frees them.
#[repr(C)]
pub struct peerage_echoed_tags {
    tags: peerage_tags,
    _arena: Arena,
    _kept: std::collections::BTreeMap<String, String>,
}

/// Gives tags back; the result begins with `peerage_tags`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_echo_tags(
    tags: peerage_tags,
    echo: *mut *mut peerage_echoed_tags,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands tags that are there, and places for pointers, or NULL.
    unsafe {
        call(error, || {
            let out = Out::new(echo, "echo")?;
            let kept = peerage::boundary::Face::C.tags("tags", echo_value(tags.value()))?;
            let mut arena = Arena::default();
            out.give(peerage_echoed_tags { tags: arena.tags(&kept), _arena: arena, _kept: kept });
            Ok(())
        })
    }
}

/// Frees them; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_echo_tags_free(tags: *mut peerage_echoed_tags) {
    // SAFETY: the header demands tags that were not freed, or NULL.
    unsafe { crate::call::free(tags) };
}

/// Panics inside the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_echo_panic(error: *mut *mut peerage_error) -> peerage_status {
    // SAFETY: the header demands a place for a pointer, or NULL.
    unsafe { call(error, || panic!("told to panic")) }
}

fn unexpected(value: &Value) -> Result<()> {
    Err(Error::Argument {
        field: "value",
        value: format!("{value:?}").chars().take(64).collect(),
        expected: "must be of the kind that the function takes".into(),
    })
}
