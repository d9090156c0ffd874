#include <iostream>

#include "ood/report.h"
int main() { std::cout << "the command may print\n"; }
