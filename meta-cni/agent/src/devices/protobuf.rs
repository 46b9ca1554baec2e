//! Protocol buffers as far as the kubelet's device APIs need them: their messages are texts, numbers and messages, and a
//! reader passes over whatever it does not know.

use std::str;

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes that are no protocol buffer message")]
pub struct NoMessage;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, or a truth.
    Number(u64),
    /// Bytes, a text or a message.
    Bytes(&'a [u8]),
    /// A number of fixed size, which no message of these APIs has.
    Fixed,
}

impl<'a> Value<'a> {
    /// The bytes of a field that is a message.
    pub fn message(self) -> Result<&'a [u8], NoMessage> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) | Self::Fixed => Err(NoMessage),
        }
    }

    /// A field that is a text.
    pub fn text(self) -> Result<&'a str, NoMessage> {
        str::from_utf8(self.message()?).map_err(|_| NoMessage)
    }
}

/// The fields of a message, in their order. Nothing follows an error.
#[derive(Clone, Debug)]
pub struct Fields<'a>(&'a [u8]);

/// Reads a message.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields(message)
}

impl<'a> Fields<'a> {
    fn number(&mut self) -> Result<u64, NoMessage> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(NoMessage)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(NoMessage)
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], NoMessage> {
        let length = usize::try_from(length).map_err(|_| NoMessage)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(NoMessage)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), NoMessage> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => self.bytes(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.number()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => self.bytes(4).map(|_| Value::Fixed)?,
            _ => return Err(NoMessage),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), NoMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Writes a field that is a number.
pub fn put_number(message: &mut Vec<u8>, field: u64, number: u64) {
    put(message, field << 3);
    put(message, number);
}

/// Writes a field that is a text or a message.
pub fn put_bytes(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put(message, field << 3 | 2);
    put(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn put(message: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        message.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, b"eth0");
        put_number(&mut message, 2, 300);
        put_bytes(&mut message, 1000, &[]);
        // As in the specification's own example: 300 is AC 02.
        assert_eq!(message[..9], [0x0a, 4, b'e', b't', b'h', b'0', 0x10, 0xac, 0x02]);
        let read: Vec<_> = fields(&message).map(Result::unwrap).collect();
        assert_eq!(read, [(1, Value::Bytes(b"eth0")), (2, Value::Number(300)), (1000, Value::Bytes(b""))]);
        assert_eq!((read[0].1.text(), read[1].1.text()), (Ok("eth0"), Err(NoMessage)));
    }

    #[test]
    fn fields_of_every_kind_are_passed_over() {
        let message = [0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x15, 1, 2, 3, 4, 0x18, 1];
        let read: Vec<_> = fields(&message).map(Result::unwrap).collect();
        assert_eq!(read, [(1, Value::Fixed), (2, Value::Fixed), (3, Value::Number(1))]);
    }

    #[test]
    fn cut_and_foreign_bytes_are_an_error_and_end_there() {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, b"eth0");
        for cut in 1..message.len() {
            let read: Vec<_> = fields(&message[..cut]).collect();
            assert_eq!(read, [Err(NoMessage)], "cut at {cut}");
        }
        for garbage in [&[0x0b][..], &[0xff; 11], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]] {
            assert_eq!(fields(garbage).collect::<Vec<_>>(), [Err(NoMessage)], "{garbage:?}");
        }
        assert_eq!(fields(&[0x0a, 1, 0xff]).next().unwrap().unwrap().1.text(), Err(NoMessage));
    }
}
