//! Prints a new cluster secret. Put it where you keep passwords, and give it to every node of one
//! cluster as `PEERAGE_SECRET`.

fn main() {
    println!("{}", peerage::Secret::generate().to_text());
}
