//! Writes the certificates of the scenarios into a folder, for runners in other languages.

use std::{env, error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args().nth(1).ok_or("usage: certificates FOLDER")?;
    peerage_conformance::certificates::write(Path::new(&folder))
}
