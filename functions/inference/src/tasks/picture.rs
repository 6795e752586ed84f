//! Pictures: decoding within limits, and the few operations the pipeline needs.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, metadata::Orientation};

/// The longest side that is decoded, in pixels.
pub const MAX_SIDE: u32 = 12_000;

/// The most pixels that are decoded: 40 megapixels, 120 MB.
pub const MAX_PIXELS: u64 = 40_000_000;

/// What the decoder may allocate besides: 16-bit pictures with alpha take 8 bytes a pixel.
const MAX_DECODER_BYTES: u64 = MAX_PIXELS * 8 + 16 * 1024 * 1024;

/// Why bytes are not a picture that can be read.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// Neither PNG nor JPEG.
    #[error("the picture is neither PNG nor JPEG; convert it to one of them")]
    Unsupported,
    /// Larger than [`MAX_SIDE`] or [`MAX_PIXELS`].
    #[error(
        "the picture is {width}×{height} pixels; the most is {MAX_SIDE} a side and {MAX_PIXELS} in all: scale it down"
    )]
    TooLarge {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// Without width or height.
    #[error("the picture has no pixels")]
    Empty,
    /// The format is known, the content is broken.
    #[error("the picture cannot be decoded: {0}")]
    Broken(#[from] image::ImageError),
}

/// An 8-bit colour picture; channels in the order blue, green, red, which the models were trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<[u8; 3]>,
}

/// What becomes of transparent pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transparency {
    /// They are blended onto white or black, whichever what shows stands out from. For reading.
    Blended,
    /// They are shown as if they were opaque, as the image processors of transformers do.
    Ignored,
}

impl Picture {
    /// Decodes PNG or JPEG bytes, upright (EXIF orientation applied), transparency blended away.
    ///
    /// # Errors
    /// [`PictureError`]; the limits are checked before pixels are decoded.
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        Self::decode_with(bytes, Transparency::Blended)
    }

    /// As [`Picture::decode`], with a choice about transparency.
    ///
    /// # Errors
    /// [`PictureError`]; the limits are checked before pixels are decoded.
    pub fn decode_with(bytes: &[u8], transparency: Transparency) -> Result<Self, PictureError> {
        let mut decoder = decoder(bytes)?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut upright = DynamicImage::from_decoder(decoder)?;
        upright.apply_orientation(orientation);
        Ok(Self::from_decoded(upright, transparency))
    }

    /// How many pixels a picture has, from its first bytes alone.
    ///
    /// # Errors
    /// As [`Picture::decode`], where the first bytes show it.
    pub(crate) fn pixels_of(bytes: &[u8]) -> Result<u64, PictureError> {
        let (width, height) = decoder(bytes)?.dimensions();
        Ok(u64::from(width) * u64::from(height))
    }

    /// Pixels across.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels down.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    fn from_decoded(decoded: DynamicImage, transparency: Transparency) -> Self {
        let (width, height) = (decoded.width() as usize, decoded.height() as usize);
        let pixels = if decoded.color().has_alpha() && transparency == Transparency::Blended {
            blended(&decoded.into_rgba8())
        } else {
            decoded.into_rgb8().pixels().map(|p| [p[2], p[1], p[0]]).collect()
        };
        Self { width, height, pixels }
    }

    /// With `rows` rows of black above and below.
    pub(crate) fn padded(&self, rows: usize) -> Self {
        let border = vec![[0; 3]; rows * self.width];
        let pixels = [&border[..], &self.pixels, &border].concat();
        Self { width: self.width, height: self.height + 2 * rows, pixels }
    }

    /// A quarter turn to the left.
    pub(crate) fn turned_left(&self) -> Self {
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for x in (0..self.width).rev() {
            pixels.extend((0..self.height).map(|y| self.pixels[y * self.width + x]));
        }
        Self { width: self.height, height: self.width, pixels }
    }

    /// Upside down.
    pub(crate) fn turned_around(mut self) -> Self {
        self.pixels.reverse();
        self
    }
}

/// What decodes a picture that is within the limits.
fn decoder(bytes: &[u8]) -> Result<impl ImageDecoder, PictureError> {
    let format = image::guess_format(bytes).map_err(|_| PictureError::Unsupported)?;
    if !matches!(format, ImageFormat::Png | ImageFormat::Jpeg) {
        return Err(PictureError::Unsupported);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(PictureError::Empty);
    }
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(PictureError::TooLarge { width, height });
    }
    Ok(decoder)
}

/// Blends transparent pixels onto white when what shows is dark on the whole, else onto black.
fn blended(picture: &image::RgbaImage) -> Vec<[u8; 3]> {
    let (mut light, mut shown) = (0.0, 0_u32);
    for p in picture.pixels().filter(|p| p[3] > 0) {
        light += 0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2]);
        shown += 1;
    }
    let ground = if light < 128.0 * f64::from(shown) || shown == 0 { 255.0 } else { 0.0 };
    let blend = |value: u8, alpha: u8| {
        let alpha = f32::from(alpha) / 255.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 255")]
        let mixed = (f32::from(value) * alpha + ground * (1.0 - alpha)) as u8;
        mixed
    };
    picture.pixels().map(|p| [blend(p[2], p[3]), blend(p[1], p[3]), blend(p[0], p[3])]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(width: usize, height: usize) -> Picture {
        let pixels = (0..width * height).map(|i| [u8::try_from(i).unwrap(); 3]).collect();
        Picture { width, height, pixels }
    }

    fn values(picture: &Picture) -> Vec<u8> {
        picture.pixels.iter().map(|p| p[0]).collect()
    }

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn turns() {
        let picture = numbered(3, 2); // 0 1 2 / 3 4 5
        let left = picture.turned_left();
        assert_eq!((left.width, left.height), (2, 3));
        assert_eq!(values(&left), [2, 5, 1, 4, 0, 3]);
        assert_eq!(values(&picture.turned_around()), [5, 4, 3, 2, 1, 0]);
    }

    #[test]
    fn padding_is_above_and_below() {
        let padded = numbered(2, 1).padded(1);
        assert_eq!((padded.width, padded.height), (2, 3));
        assert_eq!(values(&padded), [0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn decoding_keeps_colours_and_blends_transparency() {
        let red = image::RgbImage::from_pixel(2, 1, image::Rgb([200, 10, 20]));
        let opaque = Picture::decode(&encoded(&red.into(), ImageFormat::Png)).unwrap();
        assert_eq!(opaque, Picture { width: 2, height: 1, pixels: vec![[20, 10, 200]; 2] });

        let mut ink = image::RgbaImage::from_pixel(2, 1, image::Rgba([0, 0, 0, 0]));
        ink.put_pixel(1, 0, image::Rgba([10, 10, 10, 255]));
        let blended = Picture::decode(&encoded(&ink.into(), ImageFormat::Png)).unwrap();
        assert_eq!(blended.pixels, [[255; 3], [10; 3]], "dark ink goes onto white");

        let hidden = image::RgbaImage::from_pixel(1, 1, image::Rgba([200, 10, 20, 0]));
        let bytes = encoded(&hidden.into(), ImageFormat::Png);
        assert_eq!(Picture::decode_with(&bytes, Transparency::Ignored).unwrap().pixels, [[20, 10, 200]]);
    }

    #[test]
    fn what_is_no_picture_is_refused_with_the_reason() {
        let check = |bytes: &[u8], reason: &str| {
            let refusal = Picture::decode(bytes).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{refusal}");
        };
        check(b"", "neither PNG nor JPEG");
        check(b"GIF89a\x01\x00\x01\x00", "neither PNG nor JPEG");
        let small = encoded(&image::RgbImage::new(8, 8).into(), ImageFormat::Png);
        check(&small[..small.len() / 2], "cannot be decoded");
        let mut wide = encoded(&image::GrayImage::new(MAX_SIDE + 1, 1).into(), ImageFormat::Png);
        check(&wide, "scale it down");
        // A header alone that promises a huge picture is refused before anything is allocated.
        let crc_at = 29;
        wide[16..24].copy_from_slice(&[0, 0, 0x2e, 0xe0, 0, 0, 0x2e, 0xe0]);
        let crc = crc32(&wide[12..crc_at]);
        wide[crc_at..crc_at + 4].copy_from_slice(&crc.to_be_bytes());
        check(&wide, "12000×12000");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, &byte| {
            (0..8)
                .fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
        })
    }
}
