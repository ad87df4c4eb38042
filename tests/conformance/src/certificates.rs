//! Certificates for scenarios, of an authority that is made for one run and not kept.

use std::{
    error::Error,
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// Where runners find what [`write()`] wrote.
pub const VARIABLE: &str = "PEERAGE_CERTIFICATES";

const DAY: i64 = 86_400;

/// Writes an authority `ca.pem`, keys and certificates for the nodes `a` and `b`, and `a-ends.pem` for
/// the key of `a`, of whose 100 days five are left.
pub fn write(folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority of the scenarios");
    let key = KeyPair::generate()?;
    fs::write(folder.join("ca.pem"), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    for id in ["a", "b"] {
        let key = KeyPair::generate()?;
        fs::write(folder.join(format!("{id}.key")), key.serialize_pem())?;
        for (name, left) in [(id.to_owned(), 100), (format!("{id}-ends"), 5)] {
            let cert = lasting(id, left)?.signed_by(&key, &issuer)?;
            fs::write(folder.join(format!("{name}.pem")), cert.pem())?;
        }
    }
    Ok(())
}

/// Of a node, for 100 days of which so many are left.
fn lasting(id: &str, days: i64) -> Result<CertificateParams, Box<dyn Error>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let at = |days: i64| {
        let seconds = now.saturating_add_signed(days * DAY);
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    let mut params = CertificateParams::default();
    // An hour back: no clock is needed that is better than that.
    params.not_before = at(days - 100) - Duration::from_secs(3600);
    params.not_after = at(days);
    params.subject_alt_names = vec![SanType::URI(format!("peerage:{id}").try_into()?)];
    Ok(params)
}
