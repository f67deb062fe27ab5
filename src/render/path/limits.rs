//! What one look-up may cost: paths and values come from people who need not trust each other.

use std::borrow::Cow;

/// Bytes that one look-up may read and write: an object may have thousands of look-ups.
const WORK: usize = 128 << 20;

/// How often a look-up may go through its value.
const PASSES: usize = 128;

/// What it may do with the smallest of values.
const LEAST: usize = 4 << 20;

/// Bytes that one look-up may hold at a time, besides the value that it looks into: texts that it makes, and lists of parts.
const HELD: usize = 8 << 20;

/// Bytes that a part takes besides its text, where it is kept by itself.
pub(super) const PART: usize = 48;

/// How deep paths, multipaths and nested values may go: serde_json's limit.
const DEPTH: usize = 128;

/// The look-up would cost too much.
#[derive(Debug)]
pub(super) struct TooCostly;

/// What a step comes to.
pub(super) type Step<T> = Result<T, TooCostly>;

/// What is left of a look-up's allowance.
pub(super) struct Limits {
    work: usize,
    depth: usize,
    held: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { work: WORK, depth: DEPTH, held: HELD }
    }
}

impl Limits {
    /// Those of a look-up in a value of so many bytes.
    pub(super) fn of(bytes: usize) -> Self {
        Self { work: bytes.saturating_mul(PASSES).clamp(LEAST, WORK), ..Self::default() }
    }

    /// Pays for some bytes of work.
    pub(super) fn spend(&mut self, bytes: usize) -> Step<()> {
        self.work = self.work.checked_sub(bytes).ok_or(TooCostly)?;
        Ok(())
    }

    /// Takes memory, before that is so: until [`Limits::passing`] gives it back, or the look-up ends.
    pub(super) fn hold(&mut self, bytes: usize) -> Step<()> {
        self.held = self.held.checked_sub(bytes).ok_or(TooCostly)?;
        Ok(())
    }

    /// The same for a part of so many bytes that is kept by itself.
    pub(super) fn part(&mut self, bytes: usize) -> Step<()> {
        self.hold(bytes.saturating_add(PART))
    }

    /// The same for a text, if it was made.
    pub(super) fn made<'j>(&mut self, text: Cow<'j, [u8]>) -> Step<Cow<'j, [u8]>> {
        if let Cow::Owned(text) = &text {
            self.hold(text.len())?;
        }
        Ok(text)
    }

    /// Takes a step whose memory is given back: what it comes to is the caller's to hold.
    pub(super) fn passing<T>(&mut self, step: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        let held = self.held;
        let result = step(self);
        self.held = held;
        result
    }

    /// Goes one level deeper; [`Limits::back`] comes up again.
    pub(super) fn deeper(&mut self) -> Step<()> {
        self.depth = self.depth.checked_sub(1).ok_or(TooCostly)?;
        Ok(())
    }

    /// Comes up from a deeper level.
    pub(super) fn back(&mut self) {
        self.depth += 1;
    }

    /// Takes a step one level deeper.
    pub(super) fn nested<T>(&mut self, step: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        self.deeper()?;
        let result = step(self);
        self.back();
        result
    }
}
