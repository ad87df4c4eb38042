//! Reading a configuration, whichever version of the header the program was built with.

use std::{mem::offset_of, ptr, slice};

use peerage::{Config, Result, boundary::Face};

use crate::{
    call::{call, null, peerage_status, wrong},
    error::peerage_error,
    generated::config::peerage_config,
};

/// No struct of any version is larger.
const SIZE_MAX: usize = 4096;

/// Whether a program can have been built with a struct of this size.
pub(crate) fn check_size(size: usize, least: usize) -> Result<()> {
    if size < least || size > SIZE_MAX || !size.is_multiple_of(align_of::<u64>()) {
        return Err(wrong("struct_size", size, "must be sizeof the struct"));
    }
    Ok(())
}

/// Sets every field to its default, and `struct_size` to what is given, which must be
/// `sizeof(peerage_config)`. Never waits; any thread. Fails with Argument (NULL, a nonsensical
/// size).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_config_init(
    config: *mut peerage_config,
    struct_size: usize,
    error: *mut *mut peerage_error,
) -> peerage_status {
    // SAFETY: the header demands a place for a struct of that size, or NULL.
    unsafe {
        call(error, || {
            if config.is_null() {
                return Err(null("config"));
            }
            check_size(struct_size, LEAST)?;
            let defaults = peerage_config { struct_size, ..peerage_config::defaults() };
            let known = struct_size.min(size_of::<peerage_config>());
            ptr::copy_nonoverlapping(ptr::from_ref(&defaults).cast(), config.cast::<u8>(), known);
            ptr::write_bytes(config.cast::<u8>().add(known), 0, struct_size - known);
            Ok(())
        })
    }
}

/// The cluster's name and the node's were there from the beginning.
const LEAST: usize = offset_of!(peerage_config, listen);

/// The configuration that was given, checked by the core. Fields beyond a smaller struct of an
/// older header have their defaults.
///
/// # Safety
/// A struct of `struct_size` bytes must be there, and what it points to; or NULL.
pub(crate) unsafe fn read(config: *const peerage_config) -> Result<Config> {
    if config.is_null() {
        return Err(null("config"));
    }
    // SAFETY: the caller's promise.
    let size = unsafe { ptr::addr_of!((*config).struct_size).read() };
    check_size(size, LEAST)?;
    let mut given = peerage_config::defaults();
    let known = size.min(size_of::<peerage_config>());
    // SAFETY: both are at least that long.
    unsafe {
        ptr::copy_nonoverlapping(
            config.cast::<u8>(),
            ptr::from_mut(&mut given).cast::<u8>(),
            known,
        );
    }
    // SAFETY: the caller's promise covers the whole size.
    let newer = unsafe { slice::from_raw_parts(config.cast::<u8>().add(known), size - known) };
    if newer.iter().any(|byte| *byte != 0) {
        let expected = "sets fields that this version of the library does not know";
        return Err(wrong("struct_size", size, expected));
    }
    // SAFETY: the caller's promise covers what the fields point to.
    Face::C.config(unsafe { given.given() })
}
