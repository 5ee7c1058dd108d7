//! Protocol buffers by hand, as much of them as a few CRI requests need: no schema compiler, no
//! generated code. Field numbers are those of `runtime/v1/api.proto`.

/// A message being written.
#[derive(Debug, Default, Clone)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub(super) fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    pub(super) fn number(mut self, field: u32, value: u64) -> Self {
        varint(&mut self.0, u64::from(field) << 3);
        varint(&mut self.0, value);
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        varint(&mut self.0, (u64::from(field) << 3) | 2);
        varint(&mut self.0, value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }
}

/// One field's value.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The first occurrence of a field in an encoded message.
pub(super) fn field(mut message: &[u8], wanted: u32) -> Option<Value<'_>> {
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        let value = match key & 7 {
            0 => Value::Number(take_varint(&mut message)?),
            2 => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Value::Bytes(bytes)
            }
            kind => {
                let (_, rest) = message.split_at_checked(if kind == 1 { 8 } else { 4 })?;
                message = rest;
                continue;
            }
        };
        if key >> 3 == u64::from(wanted) {
            return Some(value);
        }
    }
    None
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = Message::new().text(1, "name").number(4, 300);
        let bytes = Message::new().number(7, u64::MAX).message(2, &inner).finish();
        assert_eq!(field(&bytes, 7), Some(Value::Number(u64::MAX)));
        let Some(Value::Bytes(inner)) = field(&bytes, 2) else { panic!("no field 2") };
        // As in the encoding guide: field 4, 300.
        assert_eq!(inner, [0x0a, 4, b'n', b'a', b'm', b'e', 0x20, 0xac, 0x02]);
        assert_eq!(field(inner, 1), Some(Value::Bytes(b"name")));
        assert_eq!(field(inner, 3), None);
        assert_eq!(field(&[0x0a, 200], 1), None);
    }
}
