#include "dataset_chunks.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <numeric>

namespace ood {

namespace {

constexpr std::size_t kGroupBytes = 64 << 20;     // unpacked together
constexpr std::size_t kMaxSpareBytes = 64 << 20;  // memory for the next ones

/// `count` values of T from value `first` on; shuffled: the chunk's bytes lie plane by plane, all first bytes,
/// all second ones, each of `stride` bytes.
template <class T>
void gather(const unsigned char* bytes, bool shuffled, std::size_t stride, std::size_t first,
            std::size_t count, T* to) {
  if (!shuffled || sizeof(T) == 1) {
    std::memcpy(static_cast<void*>(to), bytes + first * sizeof(T), count * sizeof(T));
    return;
  }
  const unsigned char* planes = bytes + first;
  auto* values = reinterpret_cast<unsigned char*>(to);
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t byte = 0; byte < sizeof(T); ++byte)
      values[i * sizeof(T) + byte] = planes[byte * stride + i];
}

/// The same, as another type.
template <class From, class To>
void gather_as(const unsigned char* bytes, bool shuffled, std::size_t stride, std::size_t first,
               std::size_t count, To* to) {
  if constexpr (std::is_same_v<From, To>) {
    gather(bytes, shuffled, stride, first, count, to);
  } else {
    std::array<From, 1024> some;
    for (std::size_t done = 0; done < count;) {
      const std::size_t now = std::min(count - done, some.size());
      gather(bytes, shuffled, stride, first + done, now, some.data());
      for (std::size_t i = 0; i < now; ++i) to[done + i] = static_cast<To>(some[i]);
      done += now;
    }
  }
}

template <class... Where>
void gather_floats(const std::string& dtype, float* to, const Where&... where) {
  if (dtype == "float32") return gather_as<float>(where..., to);
  if (dtype == "float64") return gather_as<double>(where..., to);
  gather_as<Eigen::half>(where..., to);
}

template <class... Where>
void gather_labels(const std::string& dtype, std::int64_t* to, const Where&... where) {
  if (dtype == "int64" || dtype == "uint64") return gather_as<std::int64_t>(where..., to);
  if (dtype == "int32") return gather_as<std::int32_t>(where..., to);
  if (dtype == "uint32") return gather_as<std::uint32_t>(where..., to);
  if (dtype == "int16") return gather_as<std::int16_t>(where..., to);
  if (dtype == "uint16") return gather_as<std::uint16_t>(where..., to);
  if (dtype == "int8") return gather_as<std::int8_t>(where..., to);
  gather_as<std::uint8_t>(where..., to);
}

/// Throws std::runtime_error unless it unpacks to exactly to.size() bytes.
void inflate(const std::vector<unsigned char>& packed, std::vector<unsigned char>& to) {
  uLongf size = to.size();
  switch (uncompress(to.data(), &size, packed.data(), packed.size())) {
    case Z_OK:
      if (size == to.size()) return;
      throw std::runtime_error(
          fmt::format("a chunk unpacks to {} bytes, expected {}", size, to.size()));
    case Z_BUF_ERROR:
      throw std::runtime_error(
          fmt::format("a chunk is cut off or unpacks to more than {} bytes", to.size()));
    case Z_MEM_ERROR:
      throw std::bad_alloc();
    default:
      throw std::runtime_error("inflate() failed");
  }
}

}  // namespace

std::unique_ptr<PackedChunks> PackedChunks::of(const hdf5::Object& array, const ArrayInfo& info,
                                               std::size_t max_kept_bytes) {
  const hdf5::Handle creation =
      hdf5::own(H5Dget_create_plist(array.id), H5Pclose, array.unreadable());
  const hdf5::Handle type = hdf5::own(H5Dget_type(array.id), H5Tclose, array.unreadable());
  const std::vector<hsize_t> chunk = hdf5::chunk_shape(array.id);
  unsigned options = 0;  // whole chunks at the edge may be stored as they are
  const bool one_byte = H5Tget_size(type) == 1;
  if (chunk.empty() || (!one_byte && H5Tget_order(type) != H5T_ORDER_LE) ||
      hdf5::check(H5Pget_chunk_opts(creation, &options), array.unreadable()) < 0 || options != 0)
    return nullptr;

  std::unique_ptr<PackedChunks> chunks(new PackedChunks);
  const int filters = hdf5::check(H5Pget_nfilters(creation), array.unreadable());
  for (int i = 0; i < filters; ++i) {
    unsigned flags = 0, config = 0, item = 0;
    std::size_t values = 1;
    const H5Z_filter_t id = H5Pget_filter2(creation, static_cast<unsigned>(i), &flags, &values,
                                           &item, 0, nullptr, &config);
    if (id == H5Z_FILTER_SHUFFLE && chunks->gzip_ < 0 && item == H5Tget_size(type))
      chunks->shuffle_ = i;
    else if (id == H5Z_FILTER_DEFLATE)
      chunks->gzip_ = i;
    else
      return nullptr;
  }
  if (filters == 0) return nullptr;
  chunks->dtype_ = info.dtype;
  chunks->shape_.assign(info.shape.begin(), info.shape.end());
  chunks->chunk_ = chunk;
  chunks->row_axis_ = info.shape.size() == 3 ? 1 : 0;
  chunks->item_ = H5Tget_size(type);
  chunks->bytes_ = std::accumulate(chunk.begin(), chunk.end(), chunks->item_, std::multiplies<>());
  chunks->max_kept_bytes_ = max_kept_bytes;
  chunks->exec_.threads = thread_count({});
  return chunks;
}

std::vector<std::vector<hsize_t>> PackedChunks::starts_of(Index begin, Index count) const {
  std::vector<std::vector<hsize_t>> starts{{}};
  for (std::size_t axis = 0; axis < shape_.size(); ++axis) {
    const bool rows = axis == row_axis_;
    const hsize_t first = rows ? static_cast<hsize_t>(begin) / chunk_[axis] * chunk_[axis] : 0;
    const hsize_t end = rows ? static_cast<hsize_t>(begin + count) : shape_[axis];
    std::vector<std::vector<hsize_t>> longer;
    for (const auto& start : starts)
      for (hsize_t at = first; at < end; at += chunk_[axis]) {
        longer.push_back(start);
        longer.back().push_back(at);
      }
    starts = std::move(longer);
  }
  return starts;
}

void PackedChunks::fetch(const hdf5::Object& array, Chunk& chunk, const std::string& what) const {
  const hdf5::Section section;
  hsize_t size = 0;
  hdf5::check(H5Dget_chunk_storage_size(array.id, chunk.start.data(), &size), what);
  // gzip adds less than this to what it cannot shrink
  if (size == 0 || size > bytes_ + bytes_ / 8 + 1024)
    throw std::runtime_error(
        fmt::format("{}: a chunk of {} bytes has {} in the file", what, bytes_, size));
  chunk.packed.resize(size);
  hdf5::check(
      H5Dread_chunk(array.id, H5P_DEFAULT, chunk.start.data(), &chunk.skipped, chunk.packed.data()),
      what);
}

void PackedChunks::unpack(Chunk& chunk) const {
  if (is_applied(gzip_, chunk)) {
    chunk.values.resize(bytes_);
    inflate(chunk.packed, chunk.values);
    return;
  }
  if (chunk.packed.size() != bytes_)
    throw std::runtime_error(
        fmt::format("a chunk has {} bytes, expected {}", chunk.packed.size(), bytes_));
  chunk.values.swap(chunk.packed);
}

bool PackedChunks::is_applied(int filter, const Chunk& chunk) {
  return filter >= 0 && (chunk.skipped >> static_cast<unsigned>(filter) & 1) == 0;
}

void PackedChunks::copy_rows(const Chunk& chunk, Index begin, Index count,
                             const RowTarget& to) const {
  // as [copies, rows, width], whatever the rank
  const bool has_copies = shape_.size() == 3, has_width = shape_.size() > 1;
  const auto at = [&](std::size_t axis) { return static_cast<Index>(chunk.start[axis]); };
  const auto size = [&](std::size_t axis) { return static_cast<Index>(chunk_[axis]); };
  const auto end = [&](std::size_t axis) {
    return std::min(at(axis) + size(axis), static_cast<Index>(shape_[axis]));
  };
  const std::size_t last = shape_.size() - 1;
  const Index width = has_width ? static_cast<Index>(shape_[last]) : 1;
  const Index column = has_width ? at(last) : 0, columns = has_width ? end(last) - column : 1;
  const Index chunk_width = has_width ? size(last) : 1;
  const Index copy = has_copies ? at(0) : 0, copies = has_copies ? end(0) - copy : 1;
  const Index first = std::max(begin, at(row_axis_));
  const Index rows = std::min(begin + count, end(row_axis_)) - first;
  const bool whole = columns == width && columns == chunk_width;  // rows lie side by side in both
  const bool shuffled = is_applied(shuffle_, chunk);
  for (Index k = 0; k < copies; ++k)
    for (Index i = 0; i < (whole ? 1 : rows); ++i) {
      const auto from =
          static_cast<std::size_t>((k * size(row_axis_) + first - at(row_axis_) + i) * chunk_width);
      const Index target = ((copy + k) * to.capacity + first - begin + i) * width + column;
      const auto numbers = static_cast<std::size_t>(whole ? rows * columns : columns);
      const unsigned char* values = chunk.values.data();
      if (to.labels != nullptr)
        gather_labels(dtype_, to.labels + target, values, shuffled, bytes_ / item_, from, numbers);
      else
        gather_floats(dtype_, to.floats + target, values, shuffled, bytes_ / item_, from, numbers);
    }
}

void PackedChunks::read(const hdf5::Object& array, Index begin, Index count, const RowTarget& to,
                        const std::string& what) {
  const auto starts = starts_of(begin, count);
  const auto end = static_cast<hsize_t>(begin + count);
  std::vector<Chunk> kept;
  kept.swap(kept_);  // none if this throws
  std::size_t kept_bytes = 0;
  const std::size_t group = std::max<std::size_t>(1, kGroupBytes / bytes_);
  for (std::size_t next = 0; next < starts.size();) {
    std::vector<Chunk> chunks;
    for (; next < starts.size() && chunks.size() < group; ++next) {
      const auto found = std::ranges::find(kept, starts[next], &Chunk::start);
      if (found != kept.end()) {
        chunks.push_back(std::move(*found));
        *found = std::move(kept.back());
        kept.pop_back();
        continue;
      }
      Chunk chunk;
      if (!spare_.empty()) {
        chunk = std::move(spare_.back());
        spare_.pop_back();
      }
      chunk.start = starts[next];
      chunk.is_packed = true;
      fetch(array, chunk, what);
      ++fetched_;
      chunks.push_back(std::move(chunk));
    }
    parallel_for(std::ssize(chunks), exec_, [&](Index i) {
      Chunk& chunk = chunks[static_cast<std::size_t>(i)];
      try {
        if (chunk.is_packed) unpack(chunk);
        chunk.is_packed = false;
        copy_rows(chunk, begin, count, to);
      } catch (const std::runtime_error& error) {
        chunk.failure = error.what();
      }
    });
    for (Chunk& chunk : chunks) {
      if (!chunk.failure.empty())  // the first one, whichever thread came first
        throw std::runtime_error(fmt::format("{}: {}", what, chunk.failure));
      const bool goes_on = chunk.start[row_axis_] + chunk_[row_axis_] > end;
      // One at least: one chunk that holds all rows would else be unpacked for every block.
      if (goes_on && (kept_.empty() || kept_bytes + bytes_ <= max_kept_bytes_)) {
        kept_bytes += bytes_;
        kept_.push_back(std::move(chunk));
      } else if (spare_.size() * bytes_ < kMaxSpareBytes) {
        spare_.push_back(std::move(chunk));
      }
    }
  }
}

}  // namespace ood
