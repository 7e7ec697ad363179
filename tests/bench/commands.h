// The command loop of both benchmark programs. Each line on standard input is a command. Its answer is one line on
// standard output: "ok …" or "error REASON". The program ends at the end of standard input.
#pragma once

#include <exception>
#include <functional>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>

namespace cow::bench {

// Returns the next word of a command. Throws std::runtime_error if there is none.
template <typename Word>
Word Take(std::istream& words) {
  Word word{};
  if (!(words >> word)) throw std::runtime_error("a word is missing, or is no number");
  return word;
}

// Answers each line with the result of `execute`, or with the text of its exception.
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
