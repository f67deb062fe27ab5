//! sops and age themselves, for tests: built once and kept in the cache.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cache::Cache;
use crate::progress;
use crate::tools::go;

const SOPS: &str = "3.13.3";
const AGE: &str = "1.1.1";

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Sops {
    /// Their directory.
    pub bin: PathBuf,
}

/// An age key.
#[derive(Debug, Clone)]
pub struct AgeKey {
    /// The file of the private key.
    pub identity: String,
    /// The public key.
    pub recipient: String,
}

impl Sops {
    /// Finds the programs, or makes them, which takes minutes the first time.
    ///
    /// # Errors
    /// When Go is missing, or a build fails.
    pub fn find_or_make() -> Result<Self> {
        let bin = Cache::open()?.entry(&format!("sops-{SOPS}-age-{AGE}"), |dir| {
            let programs = [
                (format!("github.com/getsops/sops/v3/cmd/sops@v{SOPS}"), "about 3 minutes"),
                (format!("filippo.io/age/cmd/age-keygen@v{AGE}"), "seconds"),
            ];
            for (program, time) in programs {
                let mut install = go()?;
                install.env("GOBIN", dir).args(["install", &program]);
                progress::run(&format!("building {program} (once; {time})"), &mut install, &dir.join("build.log"))?;
            }
            Ok(())
        })?;
        Ok(Self { bin })
    }

    /// Makes a key.
    ///
    /// # Errors
    /// When the program fails.
    pub fn key(&self) -> Result<AgeKey> {
        let identity = self.run("age-keygen", &[], b"")?;
        let recipient = self.run("age-keygen", &["-y"], &identity)?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).context("age-keygen printed no text");
        Ok(AgeKey { identity: text(identity)?, recipient: text(recipient)?.trim().to_owned() })
    }

    /// Encrypts a file of a format (`yaml`, `json`, `dotenv`, `ini`, `binary`) for recipients, with further arguments.
    ///
    /// # Errors
    /// When the program fails.
    pub fn encrypt(&self, recipients: &[&AgeKey], format: &str, plain: &[u8], more: &[&str]) -> Result<String> {
        let recipients: Vec<&str> = recipients.iter().map(|key| key.recipient.as_str()).collect();
        let recipients = recipients.join(",");
        let output = if format == "binary" { "json" } else { format };
        let args = [
            &["--disable-version-check", "--encrypt", "--age", &recipients, "--input-type", format, "--output-type", output],
            more,
            &["--filename-override", "in-a-test", "/dev/stdin"],
        ];
        String::from_utf8(self.run("sops", &args.concat(), plain)?).context("sops printed no text")
    }

    fn run(&self, program: &str, args: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        let mut command = Command::new(self.bin.join(program));
        // The caller's own keys and rules have no say.
        command.args(args).env_clear().env("HOME", &self.bin).current_dir(&self.bin);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("no standard input")?.write_all(input)?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{program} failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }
}
