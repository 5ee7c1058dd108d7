//! The running kernel's type information, as far as it is needed: where a structure's field lies,
//! and what a tracepoint's arguments are.
//!
//! The format is the kernel's (`Documentation/bpf/btf.rst`). Only what is asked for is read; the
//! loader has its own reader for the rest.

use std::{fs, io};

/// Where the kernel shows it.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_TYPE_TAG: u32 = 18;

/// Structures nest anonymous ones at most so deep.
const DEEPEST: u32 = 8;

/// The kernel's types.
pub(super) struct Types {
    bytes: Vec<u8>,
    strings: usize,
    /// Where each type begins, by its number less one.
    starts: Vec<u32>,
}

/// One type's header.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    members: u32,
    bitfields: bool,
    /// Its size, or the type that it refers to.
    other: u32,
    /// Where what follows the header begins.
    at: usize,
}

impl Types {
    /// The running kernel's.
    pub(super) fn of_this_kernel() -> io::Result<Self> {
        Self::parse(fs::read(VMLINUX)?).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "its layout is not understood")
        })
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let header = usize::try_from(u32_at(&bytes, 4)?).ok()?;
        let magic = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
        if magic != 0xeb9f {
            return None;
        }
        let types = header + u32_at(&bytes, 8)? as usize;
        let end = types + u32_at(&bytes, 12)? as usize;
        let strings = header + u32_at(&bytes, 16)? as usize;
        let mut all = Self { bytes, strings, starts: Vec::new() };
        let mut at = types;
        while at < end {
            all.starts.push(u32::try_from(at).ok()?);
            let this = all.read(at)?;
            at = this.at + this.trailer()?;
        }
        Some(all)
    }

    /// Where a structure's field lies, bytes from its beginning; `field` may go through members
    /// that are structures themselves (`d_name.len`).
    pub(super) fn offset(&self, structure: &str, field: &str) -> Option<u64> {
        let mut inside = self.structure(structure)?;
        let mut offset = 0;
        for part in field.split('.') {
            let (bits, kind) = self.member(inside, part, DEEPEST)?;
            offset += bits;
            inside = self.plain(kind)?;
        }
        (offset % 8 == 0).then_some(offset / 8)
    }

    /// Whether the kernel has a function of this name.
    pub(super) fn has_function(&self, name: &str) -> bool {
        self.types().any(|this| this.kind == KIND_FUNC && self.is_called(&this, name))
    }

    /// The structure that a tracepoint's argument number `n` points to.
    pub(super) fn argument(&self, tracepoint: &str, n: u32) -> Option<&str> {
        let name = format!("btf_trace_{tracepoint}");
        let wanted = |this: &Type| this.kind == KIND_TYPEDEF && self.is_called(this, &name);
        let typedef = self.types().find(wanted)?;
        // The first one is the tracer's own.
        self.points_to(self.plain(self.plain(typedef.other)?.other)?, n + 1)
    }

    /// The structure that a function's parameter number `n` points to.
    pub(super) fn parameter(&self, function: &str, n: u32) -> Option<&str> {
        let wanted = |this: &Type| this.kind == KIND_FUNC && self.is_called(this, function);
        let function = self.types().find(wanted)?;
        self.points_to(self.plain(function.other)?, n)
    }

    fn points_to(&self, prototype: Type, n: u32) -> Option<&str> {
        if prototype.kind != KIND_FUNC_PROTO || n >= prototype.members {
            return None;
        }
        let argument = u32_at(&self.bytes, prototype.at + 8 * n as usize + 4)?;
        let pointer = self.plain(argument)?;
        let target = self.plain(pointer.other)?;
        (pointer.kind == KIND_PTR && target.kind == KIND_STRUCT)
            .then(|| self.text(target.name))
            .flatten()
    }

    /// A structure's member: its offset in bits and its type, looking into anonymous ones.
    fn member(&self, inside: Type, name: &str, depth: u32) -> Option<(u64, u32)> {
        let depth = depth.checked_sub(1)?;
        for n in 0..inside.members as usize {
            let at = inside.at + 12 * n;
            let called = u32_at(&self.bytes, at)?;
            let kind = u32_at(&self.bytes, at + 4)?;
            let mut bits = u32_at(&self.bytes, at + 8)?;
            if inside.bitfields {
                // The upper byte is the width of a bit field.
                bits &= 0x00ff_ffff;
            }
            if self.text(called) == Some(name) {
                return Some((bits.into(), kind));
            }
            let anonymous = self.plain(kind).filter(|_| called == 0);
            if let Some(anonymous) = anonymous
                && matches!(anonymous.kind, KIND_STRUCT | KIND_UNION)
                && let Some((inner, kind)) = self.member(anonymous, name, depth)
            {
                return Some((u64::from(bits) + inner, kind));
            }
        }
        None
    }

    fn structure(&self, name: &str) -> Option<Type> {
        self.types().find(|this| this.kind == KIND_STRUCT && self.is_called(this, name))
    }

    /// A type without what only qualifies it.
    fn plain(&self, number: u32) -> Option<Type> {
        let mut this = self.numbered(number)?;
        while let KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG =
            this.kind
        {
            this = self.numbered(this.other)?;
        }
        Some(this)
    }

    fn numbered(&self, number: u32) -> Option<Type> {
        let start = *self.starts.get(number.checked_sub(1)? as usize)?;
        self.read(start as usize)
    }

    fn types(&self) -> impl Iterator<Item = Type> {
        self.starts.iter().filter_map(|start| self.read(*start as usize))
    }

    fn read(&self, at: usize) -> Option<Type> {
        let info = u32_at(&self.bytes, at + 4)?;
        Some(Type {
            name: u32_at(&self.bytes, at)?,
            kind: (info >> 24) & 0x1f,
            members: info & 0xffff,
            bitfields: info >> 31 == 1,
            other: u32_at(&self.bytes, at + 8)?,
            at: at + 12,
        })
    }

    fn is_called(&self, this: &Type, name: &str) -> bool {
        self.text(this.name) == Some(name)
    }

    fn text(&self, at: u32) -> Option<&str> {
        let bytes = self.bytes.get(self.strings + at as usize..)?;
        let end = memchr::memchr(0, bytes)?;
        std::str::from_utf8(&bytes[..end]).ok()
    }
}

impl Type {
    /// Bytes that follow the header.
    fn trailer(&self) -> Option<usize> {
        let members = self.members as usize;
        Some(match self.kind {
            // Integers, variables and declaration tags.
            1 | 14 | 17 => 4,
            KIND_ARRAY => 12,
            // Structures, unions, data sections and 64 bit enumerations.
            KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * members,
            // Enumerations and function prototypes.
            6 | KIND_FUNC_PROTO => 8 * members,
            // Pointers, forward declarations, functions, floats and what only qualifies.
            KIND_PTR | 7..=KIND_FUNC | 16 | KIND_TYPE_TAG => 0,
            _ => return None,
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_this_kernel_are_found_and_others_are_not() {
        let Ok(types) = Types::of_this_kernel() else {
            println!("skipped: this kernel shows no BTF");
            return;
        };
        // Both are where the kernel's own headers have them on every 64 bit machine.
        assert_eq!(types.offset("qstr", "name"), Some(8));
        assert_eq!(types.offset("list_head", "prev"), Some(8));
        let name = types.offset("dentry", "d_name.name").unwrap();
        assert_eq!(types.offset("dentry", "d_name.len").map(|len| len + 4), Some(name));
        assert_eq!(types.offset("inode", "no_such_field"), None);
        assert_eq!(types.offset("no_such_structure", "x"), None);
        assert!(types.has_function("vfs_rename") && !types.has_function("no_such_function"));
        assert_eq!(types.argument("sched_process_exit", 0), Some("task_struct"));
        assert_eq!(types.argument("sched_process_exit", 9), None);
        assert_eq!(types.argument("no_such_tracepoint", 0), None);
        assert_eq!(types.parameter("d_instantiate", 1), Some("inode"));
        assert_eq!(types.parameter("d_instantiate", 2), None);
        assert_eq!(types.parameter("no_such_function", 0), None);
    }

    #[test]
    fn damaged_information_is_refused() {
        assert!(Types::parse(Vec::new()).is_none());
        assert!(Types::parse(vec![0; 64]).is_none());
        let Ok(mut bytes) = fs::read(VMLINUX) else { return };
        // A kind that nobody knows.
        let first = u32_at(&bytes, 4).unwrap() as usize;
        bytes[first + 7] = 0x1f;
        assert!(Types::parse(bytes).is_none());
    }
}
