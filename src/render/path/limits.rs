//! What one look-up may cost: paths and values come from people who need not trust each other.

/// Bytes that one look-up may read and write. A 1 MiB value may be gone through a hundred times.
const WORK: usize = 128 << 20;

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
}

impl Default for Limits {
    fn default() -> Self {
        Self { work: WORK, depth: DEPTH }
    }
}

impl Limits {
    /// Pays for some bytes of work.
    pub(super) fn spend(&mut self, bytes: usize) -> Step<()> {
        self.work = self.work.checked_sub(bytes).ok_or(TooCostly)?;
        Ok(())
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
