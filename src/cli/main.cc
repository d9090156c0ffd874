#include "cli/commands.h"

int main(int argc, char** argv) { return ood::cli::run_command(argc, argv); }
