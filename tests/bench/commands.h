// Both programs of the benchmark are driven alike: one line on standard input is a command, answered by one line on
// standard output, "ok …" or "error REASON", when it is done. The end of standard input ends the program.
#pragma once

#include <exception>
#include <functional>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>

namespace cow::bench {

// The next word of a command. Throws std::runtime_error where there is none.
template <typename Word>
Word Take(std::istream& words) {
  Word word{};
  if (!(words >> word)) throw std::runtime_error("a word is missing, or is no number");
  return word;
}

// Answers each line by what `execute` returns of its words, or by the text of what it throws.
inline void AnswerCommands(const std::function<std::string(std::istream&)>& execute) {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    try {
      const std::string answer = execute(words);
      std::cout << "ok " << answer << std::endl;
    } catch (const std::exception& error) {
      std::cout << "error " << error.what() << std::endl;
    }
  }
}

}  // namespace cow::bench
