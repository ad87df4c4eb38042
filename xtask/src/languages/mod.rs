//! What each language needs besides cargo: set-up, tests, lint, and its programs.
macro_rules! stub { ($($n:ident)*) => { $(pub(crate) mod $n {
    pub(crate) fn worker() -> anyhow::Result<crate::demo::cast::Launch> { anyhow::bail!("not merged") }
})* } }
stub! { node python c }
