//! Authorities and certificates, with files in a directory that goes with them.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use super::*;

/// An authority of the user's own.
pub(super) struct Pki {
    pub(super) dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub(super) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("peerage-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, format!("authority {name}"));
        let key = KeyPair::generate().unwrap();
        fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir, issuer: Issuer::new(params, key) }
    }

    /// Of a node whose certificate is for this id.
    pub(super) fn options(&self, id: &str, certified: &str) -> Options {
        self.issue(id, certified, CertificateParams::default())
    }

    /// Of a node whose certificate ended yesterday.
    pub(super) fn expired(&self, id: &str) -> Options {
        self.lasting(id, -86_400)
    }

    /// Of a node whose certificate began a thousand hours ago and ends in so many seconds.
    pub(super) fn lasting(&self, id: &str, seconds: i64) -> Options {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let at = |seconds: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        let mut params = CertificateParams::default();
        params.not_before = at(now.as_secs() - 3_600_000);
        params.not_after = at(now.as_secs().checked_add_signed(seconds).unwrap());
        self.issue(id, id, params)
    }

    fn issue(&self, id: &str, certified: &str, mut params: CertificateParams) -> Options {
        let uri = identity::uri(&NodeId::new(certified).unwrap());
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.distinguished_name.push(DnType::CommonName, "node");
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let file = |what: &str| self.dir.join(format!("{id}-{certified}-{what}.pem"));
        fs::write(file("cert"), cert.pem()).unwrap();
        fs::write(file("key"), key.serialize_pem()).unwrap();
        let security =
            Security::Pem { ca: self.dir.join("ca.pem"), cert: file("cert"), key: file("key") };
        Options { security, ..options(id) }
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir); // what is left is in the system's own place for it
    }
}
