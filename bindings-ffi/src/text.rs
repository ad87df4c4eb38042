//! Text, lists of texts and tags as C has them.

use std::{ffi::c_char, ptr, slice};

use peerage::boundary::Value;

/// Text in UTF-8 by pointer and length; there need not be a zero byte after it. A NULL pointer
/// with length 0 says that nothing is given; a pointer with length 0 is an empty text.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct peerage_str {
    /// The first byte.
    pub data: *const c_char,
    /// The number of bytes.
    pub len: usize,
}

/// Several texts.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct peerage_strs {
    /// The first of them; may be NULL if there are none.
    pub items: *const peerage_str,
    /// How many.
    pub count: usize,
}

/// One tag. This struct never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct peerage_tag {
    /// The tag's name.
    pub key: peerage_str,
    /// Its value; may be empty.
    pub value: peerage_str,
}

/// A set of tags; what we give is in the order of the keys.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct peerage_tags {
    /// The first of them; may be NULL if there are none.
    pub items: *const peerage_tag,
    /// How many.
    pub count: usize,
}

/// Bytes by pointer and length.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct peerage_slice {
    /// The first byte; may be NULL if there are none.
    pub data: *const u8,
    /// How many.
    pub len: usize,
}

impl peerage_str {
    pub(crate) const NONE: Self = Self { data: ptr::null(), len: 0 };

    pub(crate) const fn fixed(text: &'static str) -> Self {
        Self { data: text.as_ptr().cast(), len: text.len() }
    }

    /// A view; whoever makes it sees to it that the text outlives it.
    pub(crate) fn of(text: &str) -> Self {
        Self { data: text.as_ptr().cast(), len: text.len() }
    }

    /// What was given. What cannot be text is left to the core to refuse by its name.
    ///
    /// # Safety
    /// `len` bytes must be there.
    pub(crate) unsafe fn value(self) -> Value {
        // SAFETY: the caller's promise is ours.
        match unsafe { given(self.data.cast::<u8>(), self.len) } {
            Given::Nothing => Value::Null,
            Given::Wrong(what) => Value::Other(what),
            Given::Items(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Value::Text(text.into()),
                Err(_) => Value::Bytes(bytes.into()),
            },
        }
    }
}

impl peerage_strs {
    pub(crate) const NONE: Self = Self { items: ptr::null(), count: 0 };

    /// # Safety
    /// `count` texts must be there, and what they point to.
    pub(crate) unsafe fn value(self) -> Value {
        // SAFETY: the caller's promise is ours.
        match unsafe { given(self.items, self.count) } {
            Given::Nothing => Value::Null,
            Given::Wrong(what) => Value::Other(what),
            Given::Items(items) => {
                // SAFETY: as above.
                Value::List(items.iter().map(|text| unsafe { text.value() }).collect())
            }
        }
    }
}

impl peerage_tags {
    pub(crate) const NONE: Self = Self { items: ptr::null(), count: 0 };

    /// # Safety
    /// `count` tags must be there, and what they point to.
    pub(crate) unsafe fn value(self) -> Value {
        // SAFETY: the caller's promise is ours.
        let tags = match unsafe { given(self.items, self.count) } {
            Given::Nothing => return Value::Null,
            Given::Wrong(what) => return Value::Other(what),
            Given::Items(tags) => tags,
        };
        let entry = |tag: &peerage_tag| {
            // SAFETY: as above.
            let (key, value) = unsafe { (tag.key.value(), tag.value.value()) };
            match key {
                Value::Text(key) => (key, value),
                Value::Bytes(key) => {
                    let what = Value::Other("under a key that is not UTF-8".into());
                    (String::from_utf8_lossy(&key).into_owned(), what)
                }
                _ => (String::new(), Value::Other("under no key".into())),
            }
        };
        Value::Map(tags.iter().map(entry).collect())
    }
}

impl peerage_slice {
    pub(crate) const NONE: Self = Self { data: ptr::null(), len: 0 };

    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr(), len: bytes.len() }
    }

    /// # Safety
    /// `len` bytes must be there.
    pub(crate) unsafe fn value(self) -> Value {
        // SAFETY: the caller's promise is ours.
        match unsafe { given(self.data, self.len) } {
            Given::Nothing => Value::Null,
            Given::Wrong(what) => Value::Other(what),
            Given::Items(bytes) => Value::Bytes(bytes.into()),
        }
    }
}

/// A flag as C has it: 0 or 1; the core refuses anything else.
pub(crate) fn flag(flag: u8) -> Value {
    match flag {
        0 => Value::Bool(false),
        1 => Value::Bool(true),
        other => Value::Int(other.into()),
    }
}

enum Given<'a, T> {
    Nothing,
    Items(&'a [T]),
    Wrong(String),
}

/// # Safety
/// `count` items must be there unless the pointer is NULL.
unsafe fn given<'a, T>(items: *const T, count: usize) -> Given<'a, T> {
    if items.is_null() {
        return match count {
            0 => Given::Nothing,
            _ => Given::Wrong(format!("NULL with a length of {count}")),
        };
    }
    if count > isize::MAX as usize / size_of::<T>().max(1) {
        return Given::Wrong(format!("a length of {count}"));
    }
    if !items.is_aligned() {
        return Given::Wrong("a misaligned pointer".into());
    }
    // SAFETY: not NULL, aligned, not too long; that the items are there is the caller's promise.
    Given::Items(unsafe { slice::from_raw_parts(items, count) })
}
