//! Python's part: native classes for events and records, their stubs, exceptions, the
//! configuration's types, and tables for the tests.

mod face;
mod native;

use anyhow::Result;

use super::{Output, description::Description, text::rustfmt};

pub(super) fn outputs(description: &Description) -> Result<Vec<Output>> {
    let output = |path, content| Output { path, content };
    Ok(vec![
        output("bindings-python/src/described/events.rs", rustfmt(&native::events(description)?)?),
        output(
            "bindings-python/src/described/records.rs",
            rustfmt(&native::records(description)?)?,
        ),
        output("bindings-python/python/peerage/_native.pyi", native::stubs(description)),
        output("bindings-python/python/peerage/__init__.py", face::package(description)),
        output("bindings-python/python/peerage/_errors.py", face::errors(description)),
        output("bindings-python/python/peerage/_config.py", face::config(description)),
        output("bindings-python/python/peerage/_types.py", face::types(description)),
        output("bindings-python/tests/described.py", face::tables(description)),
    ])
}
