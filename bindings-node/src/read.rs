//! JavaScript values as the core's, and back. Nothing is judged here: what has no counterpart
//! becomes [`Value::Other`], and the core says what it expected instead.

use napi::{
    JsString, JsValue, KeyCollectionMode, KeyConversion, KeyFilter, ValueType,
    bindgen_prelude::{
        Array, ArrayBuffer, BigInt, BufferSlice, Env, FromNapiValue, JsObjectValue, Null, Object,
        ToNapiValue, Unknown,
    },
};
use peerage::boundary::Value;

/// How deep lists and objects are followed; nothing that the core takes is deeper. It ends
/// objects that hold themselves.
const DEPTH_MAX: usize = 8;

/// Takes a JavaScript value. Fails only if code of the value's own, such as a getter, throws.
pub(crate) fn value(given: Unknown) -> napi::Result<Value> {
    value_at(given, 0)
}

fn value_at(given: Unknown, depth: usize) -> napi::Result<Value> {
    Ok(match given.get_type()? {
        ValueType::Undefined | ValueType::Null => Value::Null,
        ValueType::Boolean => Value::Bool(bool::from_unknown(given)?),
        ValueType::Number => Value::Float(f64::from_unknown(given)?),
        ValueType::BigInt => whole(&BigInt::from_unknown(given)?),
        ValueType::String => text(given)?,
        ValueType::Symbol => Value::Other("a symbol".into()),
        ValueType::Function => Value::Other("a function".into()),
        ValueType::Object => object(given, depth)?,
        other => Value::Other(format!("a value of type {other}")),
    })
}

fn whole(given: &BigInt) -> Value {
    let sign = if given.sign_bit { -1 } else { 1 };
    match given.words[..] {
        [] => Value::Int(0),
        [word] => Value::Int(i128::from(word) * sign),
        _ => Value::Other(format!("a bigint of {} bits", given.words.len() * 64)),
    }
}

fn text(given: Unknown) -> napi::Result<Value> {
    let text = String::from_unknown(given)?;
    // JavaScript's strings may hold halves of characters, which cannot be written in UTF-8: Node
    // would put U+FFFD in their place without a word.
    if text.contains('\u{fffd}') {
        let units = JsString::from_unknown(given)?.into_utf16()?;
        if String::from_utf16(units.as_slice()).is_err() {
            return Ok(Value::Other("text with half a character (a lone surrogate)".into()));
        }
    }
    Ok(Value::Text(text))
}

fn object(given: Unknown, depth: usize) -> napi::Result<Value> {
    if given.is_typedarray()? || given.is_dataview()? || given.is_buffer()? {
        return Ok(match BufferSlice::from_unknown(given) {
            Ok(bytes) => Value::Bytes(bytes.to_vec()),
            Err(_) => Value::Other("a view of bytes that cannot be read".into()),
        });
    }
    if given.is_arraybuffer()? {
        return Ok(Value::Bytes(ArrayBuffer::from_unknown(given)?.to_vec()));
    }
    if depth == DEPTH_MAX {
        return Ok(Value::Other("something nested too deeply".into()));
    }
    if given.is_array()? {
        let list = Array::from_unknown(given)?;
        let mut values = Vec::new();
        for at in 0..list.len() {
            values.push(match list.get::<Unknown>(at)? {
                Some(item) => value_at(item, depth + 1)?,
                None => Value::Null,
            });
        }
        return Ok(Value::List(values));
    }
    let object = Object::from_unknown(given)?;
    let names = object.get_all_property_names(
        KeyCollectionMode::OwnOnly,
        KeyFilter::Enumerable,
        KeyConversion::NumbersToStrings,
    )?;
    let mut entries = Vec::new();
    for at in 0..names.get_array_length()? {
        let name = names.get_element::<Unknown>(at)?;
        if name.get_type()? != ValueType::String {
            continue; // a symbol
        }
        if let Value::Text(key) = text(name)? {
            entries.push((key, value_at(object.get_property(name)?, depth + 1)?));
        }
    }
    // A Map, a Date or a promise has no entries of its own, and is no empty object either.
    if entries.is_empty() && !is_plain(&object)? {
        return Ok(Value::Other("an object of a class".into()));
    }
    Ok(Value::Map(entries))
}

/// Whether an object is of no class: its prototype, if it has one, is the last.
fn is_plain(object: &Object) -> napi::Result<bool> {
    let parent = object.get_prototype()?;
    if parent.get_type()? != ValueType::Object {
        return Ok(true);
    }
    let grandparent = Object::from_unknown(parent)?.get_prototype()?;
    Ok(grandparent.get_type()? == ValueType::Null)
}

/// Gives a value to JavaScript: whole numbers as bigint, times in milliseconds.
pub(crate) fn to_js<'env>(env: &'env Env, value: Value) -> napi::Result<Unknown<'env>> {
    match value {
        Value::Null => Null.into_unknown(env),
        Value::Bool(value) => value.into_unknown(env),
        Value::Int(value) => value.into_unknown(env),
        Value::Float(value) => value.into_unknown(env),
        Value::Duration(value) => (value.as_secs_f64() * 1000.0).into_unknown(env),
        Value::Text(value) | Value::Other(value) => value.into_unknown(env),
        Value::Bytes(value) => BufferSlice::copy_from(env, value)?.into_unknown(env),
        Value::List(values) => {
            let mut list = env.create_array(u32::try_from(values.len()).unwrap_or(u32::MAX))?;
            for (at, value) in values.into_iter().enumerate() {
                list.set(u32::try_from(at).unwrap_or(u32::MAX), to_js(env, value)?)?;
            }
            list.into_unknown(env)
        }
        Value::Map(entries) => {
            let mut object = Object::new(env)?;
            for (name, value) in entries {
                object.set(name, to_js(env, value)?)?;
            }
            object.into_unknown(env)
        }
    }
}
