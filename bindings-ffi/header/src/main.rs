//! Prints `peerage.h`, made from the sources of `bindings-ffi`, whose folder is the argument.

use std::{env, fs, path::Path};

use anyhow::{Context, Result};
use cbindgen::{Builder, Config, DocumentationStyle, Language, SortKey, Style};

/// In the order that the header has them; the echo mode is not in it.
const SOURCES: [&str; 19] = [
    "generated/codes",
    "call",
    "text",
    "error",
    "bytes",
    "cancel",
    "arena",
    "generated/config",
    "config",
    "generated/record",
    "cluster",
    "responsive",
    "members",
    "links",
    "explain",
    "messages",
    "handler",
    "stream",
    "generated/event",
];

fn main() -> Result<()> {
    let folder = env::args_os().nth(1).context("the folder of bindings-ffi is missing")?;
    let folder = Path::new(&folder);
    let text = |name: &str| {
        fs::read_to_string(folder.join("header").join(name)).with_context(|| name.to_owned())
    };
    let mut config = Config {
        language: Language::C,
        header: Some(text("heading.txt")?.trim_end().into()),
        no_includes: true,
        sys_includes: ["stdbool.h", "stddef.h", "stdint.h", "string.h"].map(str::to_owned).into(),
        cpp_compat: true,
        style: Style::Both,
        usize_is_size_t: true,
        documentation: true,
        documentation_style: DocumentationStyle::Doxy,
        line_length: 100,
        tab_width: 4,
        trailer: Some(text("trailer.txt")?.trim_end().into()),
        ..Config::default()
    };
    config.constant.sort_by = Some(SortKey::None);
    config.function.sort_by = Some(SortKey::None);
    config.function.args = cbindgen::Layout::Vertical;
    let mut builder = Builder::new().with_config(config);
    for source in SOURCES.iter().chain(&["events"]) {
        builder = builder.with_src(folder.join("src").join(format!("{source}.rs")));
    }
    let bindings = builder.generate().context("cbindgen does not take the sources")?;
    let mut header = Vec::new();
    bindings.write(&mut header);
    print!("{}", String::from_utf8(header).context("the header is no UTF-8")?);
    Ok(())
}
