#pragma once
/// What a person watches: lines that stay, and on a terminal one live line below them that is drawn over. Progress
/// bars, the live line of a run and the console log all write through one Terminal, so that they do not tear each other
/// apart. Any thread. Rank rule: rank 0 has a real one, the others Terminal::silent().

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace ft {

enum class Style { plain, bold, dim, red, yellow, green, cyan };

class Terminal {
 public:
  using Write = std::function<void(std::string_view)>;
  struct Options {
    bool live = false;  ///< can draw over a line
    bool color = false;
    int fd = -1;     ///< asked for its width before each drawing; -1: `width` holds
    int width = 80;  ///< columns
  };

  /// Writes to a file descriptor. Live where it is a terminal and TERM is not "dumb"; coloured there too, unless
  /// NO_COLOR is set and not empty (no-color.org).
  static std::shared_ptr<Terminal> on(int fd);
  /// Writes nothing.
  static std::shared_ptr<Terminal> silent();
  Terminal(Write write, Options options);
  ~Terminal();  ///< ends the live line

  bool live() const { return options_.live; }
  int width() const;
  /// `text` in a style, or as it is without colour.
  std::string paint(Style style, std::string_view text) const;

  /// Prints one or more whole lines, above the live line. A missing newline is added.
  void print(std::string_view text);
  /// Draws the live line, cut to the width; without a live terminal nothing happens.
  void draw(std::string_view line);
  /// The live line stays where it is, and what comes next is below it.
  void keep();
  /// The live line goes.
  void erase();

 private:
  Write write_;
  Options options_;
  mutable std::mutex mutex_;
  std::string line_;
};

/// Columns that a UTF-8 text takes, escape sequences not counted; every character is taken as one column wide.
int columns(std::string_view text);
/// `text` cut to at most `width` columns; colours are reset after the cut.
std::string cut(std::string_view text, int width);

}  // namespace ft
