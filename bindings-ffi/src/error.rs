//! Errors as C has them.

use std::ptr;

use peerage::{
    Error,
    boundary::{Face, Failure, Value},
};

use crate::{
    call::{free, peerage_status, read},
    generated::codes::PEERAGE_OK,
    text::peerage_str,
};

/// What went wrong. It belongs to whoever got it and is freed with `peerage_error_free`; it may be
/// read by any number of threads.
pub struct peerage_error {
    status: peerage_status,
    message: String,
    details: Vec<(String, String)>,
    fields: Vec<peerage_field_error>,
    _texts: Vec<String>,
}

/// One configuration field or argument that is wrong. It belongs to its error.
#[repr(C)]
pub struct peerage_field_error {
    /// Its name, as in `peerage_config` or in the function's declaration.
    pub field: peerage_str,
    /// The value that was given, as text; never a secret.
    pub value: peerage_str,
    /// What would be right.
    pub expected: peerage_str,
}

impl peerage_error {
    pub(crate) fn new(error: &Error) -> Self {
        let failure = Failure::new(&Face::C, error);
        let (mut details, mut fields, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in failure.details {
            match value {
                Value::List(items) if name == "fields" => {
                    fields.extend(items.into_iter().map(|item| field(item, &mut texts)));
                }
                Value::List(items) => {
                    let shown: Vec<_> = items.into_iter().map(shown).collect();
                    details.push((name, shown.join("; ")));
                }
                value => details.push((name, shown(value))),
            }
        }
        Self {
            status: failure.code as i32,
            message: failure.message,
            details,
            fields,
            _texts: texts,
        }
    }
}

/// `texts` keeps what the result points to; a `String`'s bytes stay where they are when it moves.
fn field(item: Value, texts: &mut Vec<String>) -> peerage_field_error {
    let mut field = peerage_field_error {
        field: peerage_str::NONE,
        value: peerage_str::NONE,
        expected: peerage_str::NONE,
    };
    let Value::Map(entries) = item else { return field };
    for (name, value) in entries {
        let text = shown(value);
        let view = peerage_str::of(&text);
        texts.push(text);
        match name.as_str() {
            "field" => field.field = view,
            "value" => field.value = view,
            _ => field.expected = view,
        }
    }
    field
}

fn shown(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        Value::Int(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Duration(duration) => duration.as_millis().to_string(),
        Value::Map(entries) => {
            let shown = |(name, value)| format!("{name} = {}", shown(value));
            entries.into_iter().map(shown).collect::<Vec<_>>().join(", ")
        }
        other => format!("{other:?}"),
    }
}

/// Its status; `PEERAGE_OK` for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_error_status(error: *const peerage_error) -> peerage_status {
    // SAFETY: the header demands a living error or NULL.
    read(PEERAGE_OK, || unsafe { error.as_ref() }.map_or(PEERAGE_OK, |error| error.status))
}

/// What happened, for people. It belongs to the error; empty for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_error_message(error: *const peerage_error) -> peerage_str {
    let text = peerage_str::fixed("");
    // SAFETY: the header demands a living error or NULL.
    read(text, || unsafe { error.as_ref() }.map_or(text, |error| peerage_str::of(&error.message)))
}

/// How many configuration fields or arguments are wrong; all wrong ones of a configuration are in
/// one error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_error_field_count(error: *const peerage_error) -> usize {
    // SAFETY: the header demands a living error or NULL.
    read(0, || unsafe { error.as_ref() }.map_or(0, |error| error.fields.len()))
}

/// One of them, counted from 0. It belongs to the error; NULL past the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_error_field(
    error: *const peerage_error,
    index: usize,
) -> *const peerage_field_error {
    read(ptr::null(), || {
        // SAFETY: the header demands a living error or NULL.
        let error = unsafe { error.as_ref() };
        error.and_then(|error| error.fields.get(index)).map_or(ptr::null(), ptr::from_ref)
    })
}

/// What the error says besides, by name, as text: `target`, `topic`, `message`, `addr`, `reason`,
/// `after` (milliseconds), `max` and so on, as far as its kind has it. It belongs to the error;
/// nothing (a NULL pointer) if it does not have it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_error_detail(
    error: *const peerage_error,
    name: peerage_str,
) -> peerage_str {
    read(peerage_str::NONE, || {
        // SAFETY: the header demands a living error or NULL, and text that is there.
        let (Some(error), Value::Text(name)) = (unsafe { error.as_ref() }, unsafe { name.value() })
        else {
            return peerage_str::NONE;
        };
        let detail = error.details.iter().find(|(known, _)| *known == name);
        detail.map_or(peerage_str::NONE, |(_, text)| peerage_str::of(text))
    })
}

/// Frees an error; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peerage_error_free(error: *mut peerage_error) {
    // SAFETY: the header demands an error that was not freed, or NULL.
    unsafe { free(error) };
}
