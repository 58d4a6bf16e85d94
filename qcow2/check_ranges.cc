#include "qcow2/check_ranges.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <tuple>

namespace ringcow {
namespace {

struct Edge {
  uint64_t at;
  size_t range;
};

struct Piece {
  size_t first;  // of the ranges that have it
  WeightedRange range;
};

std::vector<Edge> EdgesOf(const std::vector<WeightedRange>& ranges) {
  std::vector<Edge> edges;
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (ranges[i].begin >= ranges[i].end) continue;
    edges.push_back({ranges[i].begin, i});
    edges.push_back({ranges[i].end, i});
  }
  std::ranges::sort(edges, {}, &Edge::at);
  return edges;
}

}  // namespace

std::vector<WeightedRange> SplitOverlaps(const std::vector<WeightedRange>& ranges) {
  std::vector<Piece> pieces;
  std::set<size_t> open;
  uint64_t weight = 0;
  uint64_t begin = 0;
  for (const Edge& edge : EdgesOf(ranges)) {
    if (!open.empty() && begin < edge.at) {
      const size_t first = *open.begin();
      pieces.push_back({first, {begin, edge.at, weight, ranges[first].active}});
    }
    begin = edge.at;
    if (open.insert(edge.range).second) {
      weight += ranges[edge.range].weight;
    } else {
      open.erase(edge.range);
      weight -= ranges[edge.range].weight;
    }
  }
  std::ranges::sort(pieces, [](const Piece& a, const Piece& b) {
    return std::tie(a.first, a.range.begin) < std::tie(b.first, b.range.begin);
  });

  std::vector<WeightedRange> split;
  split.reserve(pieces.size());
  for (const Piece& piece : pieces) split.push_back(piece.range);
  return split;
}

}  // namespace ringcow
