//! Peerage for Python, the native half: converts values, and carries outcomes from our threads to
//! an event loop's. It decides nothing; the core does. `python/peerage` is the half that users see.
//!
//! Two rules keep it out of the interpreter's way. Our threads never touch Python: they leave
//! notes in a `port` and make its file descriptor readable, and the event loop's own thread does
//! all the rest. So neither a held GIL nor an interpreter that goes down can stop or crash them.
//! And no lock is held while Python code runs.

mod calls;
mod convert;
mod described;
mod echo;
mod events;
mod failure;
mod handlers;
mod node;
mod port;
mod process;
mod stream;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<calls::Call>()?;
    module.add_class::<events::Subscription>()?;
    module.add_class::<handlers::Asked>()?;
    module.add_class::<handlers::Request>()?;
    module.add_class::<node::Node>()?;
    module.add_class::<port::Port>()?;
    module.add_class::<stream::NativeStream>()?;
    module.add_class::<stream::Chunk>()?;
    module.add_function(wrap_pyfunction!(node::start, module)?)?;
    module.add_function(wrap_pyfunction!(node::generate_secret, module)?)?;
    module.add_function(wrap_pyfunction!(echo::echo_value, module)?)?;
    module.add_function(wrap_pyfunction!(echo::echo_events, module)?)?;
    module.add_function(wrap_pyfunction!(echo::echo_panic, module)?)?;
    described::add_to(module)
}
