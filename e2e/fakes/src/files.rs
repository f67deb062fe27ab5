//! A server of files, as any web server is: `ETag` and `If-None-Match` (RFC 9110), and a header that it may ask for.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::{Fake, Received, Reply, digest};

/// The files, by path.
#[derive(Default)]
pub struct Files {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    asked_for: Option<(&'static str, &'static str)>,
}

impl Files {
    /// Files that everybody may have.
    pub fn new(files: &[(&str, &[u8])]) -> Self {
        let server = Self::default();
        for (path, bytes) in files {
            server.put(path, bytes);
        }
        server
    }

    /// Only for those who send this header.
    #[must_use]
    pub fn for_header(mut self, name: &'static str, value: &'static str) -> Self {
        self.asked_for = Some((name, value));
        self
    }

    /// Puts a file in place of any other there.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        self.files.lock().unwrap().insert(path.to_owned(), bytes.to_vec());
    }
}

impl Fake for Files {
    fn answer(&self, asked: &Received) -> Reply {
        if self.asked_for.is_some_and(|(name, value)| asked.header(name) != value) {
            return self.refuse(crate::Refusal::Denied);
        }
        let files = self.files.lock().unwrap();
        let Some(bytes) = files.get(asked.path()) else { return Reply::text(404, "no such file") };
        let tag = format!("\"{}\"", digest(bytes));
        match asked.header("if-none-match") == tag {
            true => Reply::text(304, "").with("etag", &tag),
            false => Reply::bytes(200, bytes.clone()).with("etag", &tag),
        }
    }
}
