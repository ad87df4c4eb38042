//! What every function does: checks its pointers, stops panics, hands out status and error.

use std::{
    ffi::{CStr, c_char},
    ptr::{self, NonNull},
};

use peerage::{Error, Result, boundary::guarded};

use crate::{error::peerage_error, generated::codes::PEERAGE_OK};

/// `PEERAGE_OK`, or one of `PEERAGE_ERROR_…`. Numbers are only ever added: be ready for one that
/// this header does not know (`peerage_code_name` takes any).
pub type peerage_status = i32;

/// The configured default, where a deadline is asked for.
pub const PEERAGE_DEFAULT: u64 = u64::MAX;

/// A time-out that never comes.
pub const PEERAGE_FOREVER: u64 = u64::MAX;

/// Makes a call: its outcome as a status and, where the caller wants one, an error object. A
/// panic ends here.
///
/// # Safety
/// `error` must be NULL or a place for a pointer.
pub(crate) unsafe fn call(
    error: *mut *mut peerage_error,
    work: impl FnOnce() -> Result<()>,
) -> peerage_status {
    let (status, object) = match guarded(work) {
        Ok(()) => (PEERAGE_OK, ptr::null_mut()),
        Err(failure) if error.is_null() => (failure.code() as i32, ptr::null_mut()),
        Err(failure) => {
            (failure.code() as i32, Box::into_raw(Box::new(peerage_error::new(&failure))))
        }
    };
    if !error.is_null() {
        // SAFETY: the caller's promise.
        unsafe { error.write(object) };
    }
    status
}

/// Reads something that cannot fail; a panic gives `otherwise`.
pub(crate) fn read<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    guarded(|| Ok(work())).unwrap_or(otherwise)
}

/// Frees a handle; NULL is fine.
///
/// # Safety
/// The pointer must have come from [`Out::give`] or `Box::into_raw`, and not have been freed.
pub(crate) unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: the caller's promise.
        read((), || drop(unsafe { Box::from_raw(handle) }));
    }
}

/// A handle or another thing by pointer; NULL is an error that names the argument.
///
/// # Safety
/// What is not NULL must point to a living `T`.
pub(crate) unsafe fn argument<'a, T>(pointer: *const T, field: &'static str) -> Result<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(field))
}

pub(crate) fn null(field: &'static str) -> Error {
    wrong(field, "NULL", "must not be NULL")
}

pub(crate) fn wrong(field: &'static str, value: impl ToString, expected: &str) -> Error {
    Error::Argument { field, value: value.to_string(), expected: expected.into() }
}

/// Where a new handle goes.
pub(crate) struct Out<T>(NonNull<*mut T>);

impl<T> Out<T> {
    /// It holds NULL from now on, so that a caller never frees what was there before.
    ///
    /// # Safety
    /// `place` must be NULL or a place for a pointer.
    pub(crate) unsafe fn new(place: *mut *mut T, field: &'static str) -> Result<Self> {
        let place = NonNull::new(place).ok_or_else(|| null(field))?;
        // SAFETY: the caller's promise.
        unsafe { place.write(ptr::null_mut()) };
        Ok(Self(place))
    }

    /// The caller owns it from now on.
    pub(crate) fn give(self, value: T) {
        // SAFETY: `new` was promised a place for a pointer.
        unsafe { self.0.write(Box::into_raw(Box::new(value))) };
    }
}

/// A number's name.
pub(crate) fn name(number: i32, names: &'static [(i32, &'static CStr)]) -> *const c_char {
    let known = names.iter().find(|(known, _)| *known == number);
    known.map_or(c"unknown", |(_, name)| *name).as_ptr()
}
